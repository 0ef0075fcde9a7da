"""Recognise files of other code bases, by their bytes and the names in them, and say what to do with them.

Nothing here executes or imports anything that a file names.
"""

import sys
import zipfile

from dnnlib.util import printable

# Python modules and names whose objects are plain data.
_DATA_MODULES = {
    "array",
    "collections",
    "datetime",
    "decimal",
    "enum",
    "fractions",
    "numbers",
    "pathlib",
    "random",
    "uuid",
}
_DATA_NAMES = {"argparse Namespace", "types SimpleNamespace", "copyreg _reconstructor", "copy_reg _reconstructor"}
_DATA_BUILTINS = {"set", "frozenset", "list", "dict", "tuple", "int", "float", "bool", "str", "unicode", "long"}
_DATA_BUILTINS |= {"bytes", "bytearray", "complex", "slice", "range", "xrange", "object"}
# Python 2's modules, and packages whose functions read files, load code or start programs.
_HARMFUL_ROOTS = {"__builtin__", "commands", "cPickle", "popen2", "exceptions", "StringIO", "urllib2"}
_HARMFUL_ROOTS |= {
    "cloudpickle",
    "dill",
    "IPython",
    "joblib",
    "pip",
    "pkg_resources",
    "setuptools",
    "paramiko",
    "requests",
}
_HARMFUL_MODULES = ("torch.hub", "torch.jit", "torch.serialization", "torch.package", "torch.utils.cpp_extension")
_HARMFUL_MODULES += ("torch._dynamo", "torch._inductor", "torch.distributed.run", "torch.distributed.rpc")
_HARMFUL_MODULES += ("numpy.f2py", "numpy.testing", "numpy.distutils")
_HARMFUL_NAMES = {"torch load", "torch compile", "numpy load", "numpy fromfile", "numpy memmap", "numpy save"}

_FROM_TENSORFLOW = (
    "a TensorFlow pickle: StyleGAN2's and StyleGAN2-ADA's are converted by legacy.py of stylegan2-ada-pytorch or "
    "stylegan3, python legacy.py --source=OLD.pkl --dest=NEW.pkl; then give NEW.pkl"
)
_FROM_TORCH = (
    "a file of torch.save: checkpoints of rosinality's StyleGAN2 and of pixel2style2pixel are read by "
    "export.py --from rosinality --to snapshot"
)
_STARTS = {  # first bytes of files that users give instead of a snapshot
    b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.": _FROM_TORCH,  # before PyTorch 1.6
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself: fetch it with git lfs pull",
    b"<": "a web page, not a network: the download failed, open the page in a browser",
    b"\x89HDF": "an HDF5 file of TensorFlow or Keras: give a StyleGAN2-ADA snapshot",
    b"\x89PNG": "an image: give a snapshot",
    b"\xff\xd8\xff": "an image: give a snapshot",
    b"\x1f\x8b": "a gzip archive: unpack it and give the snapshot in it",
    b"BZh": "a bzip2 archive: unpack it and give the snapshot in it",
    b"\xfd7zXZ": "an xz archive: unpack it and give the snapshot in it",
    b"7z\xbc\xaf": "a 7z archive: unpack it and give the snapshot in it",
    b"Rar!": "a RAR archive: unpack it and give the snapshot in it",
}
_ZIP_MEMBERS = (  # endings of names in a zip, the most specific first
    ("exported_program.json", "a torch.export program: give the snapshot that it was exported from"),
    ("archive_format", "a torch.export program: give the snapshot that it was exported from"),
    ("constants.pkl", "a TorchScript file, whose code would have to run: give a StyleGAN2-ADA snapshot"),
    ("data.pkl", _FROM_TORCH),
    (".npy", "a file of NumPy arrays (npz): generate.py takes those of the projector with --projected-w"),
    (".safetensors", "a zip archive: unpack it and give the snapshot in it"),
    (".pkl", "a zip archive: unpack it and give the snapshot in it"),
    (".png", "a data set: train.py takes it with --data; give a snapshot"),
    (".jpg", "a data set: train.py takes it with --data; give a snapshot"),
)


def describe(path):
    """What a file is, if it is not a snapshot, and what to do; None if unknown."""
    with open(path, "rb") as file:
        start = file.read(64)
    if not start:
        return "empty: the copy or the download did not finish, get the file again"
    if start.startswith(b"PK"):
        return _describe_zip(path)
    return next((what for first, what in _STARTS.items() if start.lstrip().startswith(first)), None)


def _describe_zip(path):
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "a damaged zip archive: get the file again"
    return next((what for end, what in _ZIP_MEMBERS if any(name.endswith(end) for name in names)), "a zip archive")


def pickled_class(name):
    """Describe a pickle whose networks are objects of the class `name` ("package.module.Class")."""
    if "tflib" in name or name.startswith(("tfutil.", "tensorflow.")):
        return _FROM_TENSORFLOW
    return (
        f"a pickle of {printable(name)} objects, which only its own code base can rebuild: save the networks as "
        "StyleGAN2-ADA does (persistent classes, keys G, D and G_ema), or their state dicts with torch.save"
    )


def is_dangerous(name):
    """Whether unpickling the global `name` ("module attribute") could run programs, read files or reach the network.

    Python's own modules count as dangerous except for a few data types; other packages only if listed.
    """
    module, _, attribute = name.partition(" ")
    root = module.split(".")[0]
    if name in _DATA_NAMES:
        return False
    if root in ("builtins", "__builtin__"):
        return attribute not in _DATA_BUILTINS
    if root in _DATA_MODULES:
        return "." in attribute or attribute.startswith("_")
    return (
        root in sys.stdlib_module_names
        or root in _HARMFUL_ROOTS
        or name in _HARMFUL_NAMES
        or any(module == harmful or module.startswith(harmful + ".") for harmful in _HARMFUL_MODULES)
    )
