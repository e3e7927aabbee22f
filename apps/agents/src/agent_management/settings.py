"""What the service reads from its environment and from .env, besides what newel reads."""

from newel import settings
from pydantic import SecretStr


class Settings(settings.Settings):
    service_name: str = "agent_management"

    assistant_url: str = "http://127.0.0.1:11434/v1"
    assistant_key: SecretStr | None = None
    assistant_network: str | None = "127.0.0.1/32"
