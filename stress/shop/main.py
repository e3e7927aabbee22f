"""What `newel serve` and `newel worker` start."""

from stress.shop.application import ShopSettings, build

app = build(ShopSettings.from_environment())
