"""What `newel serve` starts: the application with the settings of this environment."""

from newel.settings import Settings
from sample_service.application import build

app = build(Settings())
