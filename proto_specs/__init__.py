"""The records that go over a wire or under a hash: types, codec, domain tags, limits. Imports nothing of ours."""
