"""What pyproject.toml cannot say: the native library is compiled where fxq is installed or packed.

Without a compiler the installation goes on; `fxq targets` says what is missing then.
"""

import importlib.util
import warnings
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

FOLDER = Path("fxq", "kernels", "native")


def load(path):
    """A module from its file: fxq itself is not installed yet."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


native = load(Path(__file__).resolve().parent / FOLDER / "build.py")


class BuildWithLibrary(build_py):
    """An editable installation gets the library beside the sources, a wheel inside of it."""

    def run(self):
        super().run()
        folder = native.HERE if self.editable_mode else Path(self.build_lib) / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        try:
            native.build(folder)
        except native.CannotBuild as error:
            warnings.warn(f"fxq is installed without its native library: {error}", stacklevel=1)


class OfOnePlatform(Distribution):
    """Files lie where a platform's belong."""

    def has_ext_modules(self):
        return True


class Wheel(bdist_wheel):
    """The library is called through ctypes: of one platform, for every Python."""

    def get_tag(self):
        compiled = (Path(self.bdist_dir) / FOLDER / native.NAME).exists()
        return "py3", "none", super().get_tag()[2] if compiled else "any"


setup(distclass=OfOnePlatform, cmdclass={"build_py": BuildWithLibrary, "bdist_wheel": Wheel})
