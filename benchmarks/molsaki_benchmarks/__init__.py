"""What stepwise attention costs in time and memory, measured on this machine. `molsaki bench` runs it."""
