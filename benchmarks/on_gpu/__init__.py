"""The rooms of ``benchmarks/gpu.py``.

``bench`` is the device, its clock and its record; ``forms`` are the masks and the
methods that are compared, ``errors`` what is right. Each part of a measurement
has a room: ``costs``, ``checks``, ``tiles``, ``attention``, ``decoding``; ``tables``
prints what was found.
"""
