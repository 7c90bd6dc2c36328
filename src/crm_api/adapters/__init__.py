"""Everything beyond the process, each with a stand-in for tests."""
