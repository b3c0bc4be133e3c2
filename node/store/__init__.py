"""The node's database: the only importer of plyvel."""
