"""The rules of the tunnel server: no I/O, no await, no clock, no third party."""
