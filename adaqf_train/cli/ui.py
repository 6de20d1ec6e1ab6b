"""The verb that opens a page for prompts: ui."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import tyro

from adaqf_train.errors import ConfigError

if TYPE_CHECKING:
    from adaqf_train.ui.app import Studio


FORMATS = (".bvh", ".glb", ".mp4", ".npy")  # of every model's motion


@dataclass(frozen=True)
class Ui:
    """Open a page in the browser that generates motions from prompts; needs `pip install 'adaclip[ui]'`."""

    run: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """Folder of a finished run, whose baseline and AdaQF are shown."""
    model: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """Folder of a generator of any family. Without --run and --model: adaclip-pocket, which comes with this package."""
    host: str = "127.0.0.1"  # Address to listen on; 0.0.0.0 lets other machines in, without a password.
    allow_host: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Name under which the page may also be opened, such as that of a proxy. With --host, any IP address works too."""
    port: int = 7860  # Port to listen on.
    open: bool = True  # Open the browser.
    space: Path | None = None
    """Folder to write a Hugging Face Space of the page to, with adaclip-pocket, instead of opening the page."""

    def __call__(self) -> None:
        if self.space is not None:
            self._write_space(self.space)
            return
        if not 0 < self.port < 65536:
            raise ConfigError(f"--port must lie between 1 and 65535, got {self.port}.")
        os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when Gradio is imported
        with TemporaryDirectory(prefix="adaclip-ui-") as folder:
            studio = self.studio(Path(folder))
            app = studio.app()  # says what to install if Gradio is missing
            from starlette.middleware import Middleware

            from adaqf_train.ui import guard

            app.launch(
                server_name=self.host,
                server_port=self.port,
                inbrowser=self.open,
                share=False,
                allowed_paths=[folder],
                max_file_size=1,  # byte: the page takes no files
                app_kwargs={"middleware": [Middleware(guard.Guard, **guard.options(self.host, self.allow_host))]},
            )

    def studio(self, folder: Path) -> Studio:
        """The models that were asked for, writing their files into that folder."""
        from adaclip.packaged import NAME
        from adaqf_train.files.save import save_motion
        from adaqf_train.generators.base import MotionGenerator
        from adaqf_train.generators.folder import GENERATOR
        from adaqf_train.ui.app import Studio
        from adaqf_train.userstudy.collect import generators_of

        generators = generators_of(self.run, self.model) or {NAME: MotionGenerator.from_pretrained(GENERATOR)}
        return Studio(generators, dict.fromkeys(FORMATS, save_motion), folder)

    def _write_space(self, folder: Path) -> None:
        from adaqf_train.ui.space import write_space

        if self.run or self.model:
            raise ConfigError(
                "--space serves adaclip-pocket: omit --run and --model, or open their page without --space."
            )
        for path in write_space(folder):
            print(f"wrote {path}")
        print(f"Try it: cd {folder} && python app.py. Upload it: hf upload OWNER/NAME {folder} --repo-type space")
