"""One image and its mask become a film with exact labels."""
