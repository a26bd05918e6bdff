"""Builds the C++ engine with CMake and ninja and puts its Python module into the package."""

import os
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
TOP_LEVEL = {"lrengine.kernels": "kernels", "lrengine.export": "export"}


class CMakeBuild(build_ext):
    """`LRENGINE_BUILD_JOBS` limits the compiler processes; `LRENGINE_CMAKE_ARGS` adds options, such as
    -DLRENGINE_CUDA=ON for wheels with the CUDA backend built where there is no GPU; `LRENGINE_BUILD_DIR` is a folder to
    compile in, which the next build goes on from."""

    def build_extension(self, ext: Extension) -> None:
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        build = Path(os.environ.get("LRENGINE_BUILD_DIR", ROOT / self.build_temp / "engine")).resolve()
        build.mkdir(parents=True, exist_ok=True)
        options = [
            "-GNinja",
            "-DCMAKE_BUILD_TYPE=Release",
            "-DLRENGINE_PYTHON=ON",
            "-DLRENGINE_SENTENCEPIECE=OFF",  # Python has `tokenizers`: a wheel needs no library of the system
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={target.parent}",
            *self._pybind11(),
            *os.environ.get("LRENGINE_CMAKE_ARGS", "").split(),
        ]
        jobs = os.environ.get("LRENGINE_BUILD_JOBS", str(os.cpu_count() or 1))
        subprocess.run(["cmake", "-S", str(ROOT / "csrc"), "-B", str(build), *options], check=True)
        subprocess.run(["cmake", "--build", str(build), "--target", "lrengine_package", "-j", jobs], check=True)

    @staticmethod
    def _pybind11() -> list[str]:
        import pybind11

        return [f"-Dpybind11_DIR={pybind11.get_cmake_dir()}"]


packages = find_packages(include=["lrengine", "lrengine.*"])
for name, folder in TOP_LEVEL.items():
    packages += [name, *(f"{name}.{sub}" for sub in find_packages(folder))]

setup(
    packages=packages,
    package_dir={"lrengine": "lrengine", **TOP_LEVEL},
    package_data={"lrengine": ["py.typed", "*.pyi", "**/*.css"]},
    ext_modules=[Extension("lrengine._engine", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
