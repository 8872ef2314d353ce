"""What people do with a trained generator: walk, mix, truncate, steer, zoom, look inside, invert, watch it learn."""
