import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vitgan.data.duplicates import find_duplicates, image_digests


@given(st.lists(st.binary(min_size=4, max_size=4), max_size=30))
def test_duplicates_point_to_the_first_copy(contents):
    images = np.frombuffer(b"".join(contents), np.uint8).reshape(-1, 1, 2, 2)
    expected = [(contents.index(data), index) for index, data in enumerate(contents) if data in contents[:index]]
    assert find_duplicates(image_digests(images)) == expected
