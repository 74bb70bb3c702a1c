"""One image and its mask become a clip with exact labels."""

from handful.pick import need

need("cv2", "dream")  # every part of it needs OpenCV; without it, the line that installs it rather than a traceback
