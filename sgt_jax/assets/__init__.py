"""What ships inside the package: the nano model, the templates of reports, numbers of the paper; and names on the hub."""


def resource(path: str) -> str:
    """A path as it is; after "package:" a file shipped inside sgt_jax/assets, after "hf://" a folder of the model hub.

    Raises:
      CheckpointError: the hub has no such name, or there is no connection and nothing in its cache.
    """
    if path.startswith("hf://"):
        from sgt_jax.assets import hub

        return hub.snapshot(path)
    if path.startswith("package:"):
        from etils import epath

        return str(epath.resource_path("sgt_jax") / "assets" / path.removeprefix("package:"))
    return path
