"""`tunnel-server doctor`: looks at a server from its own machine, and says how to mend what is wrong."""
