"""Questions about an application, answered from the application: who may call what, and how."""
