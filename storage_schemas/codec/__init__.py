"""How video files are opened, decoded, encoded and copied; `storage_schemas.video` is the door to it."""
