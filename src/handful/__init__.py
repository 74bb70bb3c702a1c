"""handful: teach a camera something new from a handful of images, and prove it on the phone.

Importing this package imports nothing heavy; every part is loaded by the verb or the call that uses it.
"""

__version__ = "0.3.0"
