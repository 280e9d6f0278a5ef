"""The page at ``/``, from which people upload, and ``/resumable.js``, the module behind it.

``files/`` and ``js/`` hold what is served, as it is: there is no build step. ``js/`` is an npm package of its own.
"""
