"""The SQL of users."""

from newel.repository import Repository

from agent_management.users.models import User


class UserRepository(Repository[User]):
    entity = User
