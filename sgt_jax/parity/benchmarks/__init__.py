"""Our rules of scoring against scores recorded from the official benchmark tools."""
