"""What the standard library lacks: Ed25519 signatures, and AES-256-GCM."""

from __future__ import annotations

import secrets
from typing import Final

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES: Final = 12


class Ed25519:
    """A private key and its ``public`` one, 32 bytes (RFC 8032)."""

    def __init__(self, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self._public = self._private.public_key()
        self.public = self._public.public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """Return the signature of ``message``, 64 bytes."""
        return self._private.sign(message)

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Tell whether ``signature`` is that of ``message``."""
        try:
            self._public.verify(signature, message)
        except InvalidSignature:
            return False
        return True


class Aes256Gcm:
    """Encrypts by one key; every time with a new nonce, which is written in front."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def encrypt(self, plain: bytes, context: bytes) -> bytes:
        """Return ``plain`` encrypted, to be opened with the same ``context``."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, context)

    def decrypt(self, sealed: bytes, context: bytes) -> bytes | None:
        """Return what was encrypted by this key with this ``context``; else ``None``."""
        nonce, encrypted = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return self._cipher.decrypt(nonce, encrypted, context)
        except InvalidTag:
            return None
