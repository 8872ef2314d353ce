"""A run: its folder, its processes, its images and evaluations, and how it is trained and goes on."""
