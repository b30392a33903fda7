"""Looks at a server's surroundings as its visitors, clients and CA find them; judges nothing."""
