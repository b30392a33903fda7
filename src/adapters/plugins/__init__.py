"""pluggy behind the domain's policies: each hook is called by itself, guarded, as its rule says."""
