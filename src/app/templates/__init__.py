"""What a new plugin is made of: texts with ``$name``, ``$package``, ``$setting`` and ``$version`` to fill in."""
