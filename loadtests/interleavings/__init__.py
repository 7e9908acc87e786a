"""The interleavings that put an old price back, played against ours, Varnish and nginx, one table for all of them."""
