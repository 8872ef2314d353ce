"""Images on their way to training: source -> store -> stream.

A *source* reads one format that people have (`vitgan.data.sources`), `prepare` decodes, crops and resizes its images
into a *store* (one memory-mapped array and its description), and a *stream* draws endless shuffled batches from it.
"""
