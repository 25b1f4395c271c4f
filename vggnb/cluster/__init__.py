"""The feature store, filled by one process or by a Ray cluster: for archives that one machine is too slow for.

Only the frozen forward pass grows with an archive, and it is a pure function of each picture: any machine may compute
any part. The manifest is cut into units; a unit is decoded, run through the network and written as whole shards.

- `units`: the manifest, a unit at a time: what is missing in the store, each picture once
- `work`: what a worker does with a unit
- `network`: VGG-16's frozen part as a worker has it; the only module here that needs TensorFlow
- `local`: the units in this process
- `machines`: joining a Ray cluster, and whether its machines can do this together
- `distributed`: the units on those machines, whatever dies meanwhile
- `fill`: `fill_store`: all of these together
- `rehearsal`: a cluster of two nodes on this machine, and a worker that dies, to see what happens
- `plan`: hours and bytes that an archive takes, by arithmetic
"""

from vggnb.cluster.fill import Filled, fill_store

__all__ = ["Filled", "fill_store"]
