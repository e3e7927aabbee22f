"""What is true of a FastAPI project: its application as imported, its source as read."""
