"""What a request costs: the same service written several ways, measured side by side."""
