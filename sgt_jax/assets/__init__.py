"""What ships inside the package: the nano model, the templates of reports, numbers of the paper."""


def resource(path: str) -> str:
    """A path as it is, or, after "package:", a file shipped inside sgt_jax/assets."""
    if path.startswith("package:"):
        from etils import epath

        return str(epath.resource_path("sgt_jax") / "assets" / path.removeprefix("package:"))
    return path
