"""What a workbench is made of, notebooks and shipped networks, goes into the package that is built.

In the repository they lie where they are worked on; ``gan_lib/_workbench`` exists in wheels only.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SWEPT = (  # tables that studies read
    *("figures/ablations", "figures/counts", "figures/generalisation", "figures/prediction_test"),
    *("figures/universal", "figures/universal_photographs"),
    *("figures/contrastive_cifar10", "figures/contrastive_photographs"),
)
SHIPPED = ("notebooks", "data/pretrained", "data/README.md", *SWEPT)


class BuildWithWorkbench(build_py):
    """Build the package, then copy the files into it; an editable install uses the project's own."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        shutil.rmtree(Path(self.build_lib) / "gan_lib" / "_workbench", ignore_errors=True)
        for source, target in self._shipped().items():
            self.mkpath(str(Path(target).parent))
            self.copy_file(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        own = [] if self.editable_mode else [*self._shipped().values()]
        return [*super().get_outputs(include_bytecode), *own]

    def get_source_files(self) -> list[str]:
        return [*super().get_source_files(), *self._shipped()]

    def _shipped(self) -> dict[str, str]:
        """Where each file goes, by its own path."""
        files = [path for name in SHIPPED for path in (Path(name), *Path(name).rglob("*")) if path.is_file()]
        kept = [path for path in files if not any(part.startswith((".", "__")) for part in path.parts)]
        return {str(path): str(Path(self.build_lib, "gan_lib", "_workbench", path)) for path in kept}


setup(cmdclass={"build_py": BuildWithWorkbench})
