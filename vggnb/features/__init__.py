"""The frozen part of the network is a pure function of an image: run it once for each image and keep the result.

- `store`: the files that hold the results, looked up by the hash of an image's bytes
- `extraction`: `extract` and `fill_store`, the one loop that computes what the store lacks; the local engine
- `ray_engine`: the same on the machines of a Ray cluster
- `rehearsal`: a cluster of two nodes on this machine, and a worker that dies, to try it
"""

from vggnb.features.extraction import Features, extract, fill_store, store_key

__all__ = ["Features", "extract", "fill_store", "store_key"]
