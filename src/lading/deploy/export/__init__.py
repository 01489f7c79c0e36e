"""A project as files of other deployment tools, which refer to what was built by path and digest. Writes nothing itself."""
