"""The service under test: orders, transfers, what jobs and handlers did for them, and mails."""
