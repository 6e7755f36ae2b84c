"""Devices and processes: arrays over the devices of a mesh, several processes as one run."""
