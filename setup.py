"""The one thing pyproject.toml cannot say: the C core is built through cffi, as one abi3 wheel."""

from setuptools import setup

setup(
    cffi_modules=["csrc/build_core.py:ffibuilder", "csrc/lab/build_traffic.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
