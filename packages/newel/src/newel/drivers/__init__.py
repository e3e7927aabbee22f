"""What only some services need: one file a technology, imported when its URL asks for it."""
