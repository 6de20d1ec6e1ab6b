"""The verb that compares text encoders without motion: encoders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from adaqf_train.errors import ConfigError


@dataclass(frozen=True)
class Encoders:
    """Compare text encoders without motion: which meanings they distinguish, and which paraphrases they treat as equal.

    Needs neither motions nor training; takes minutes on a CPU.
    """

    models: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="LABEL=MODEL")] = ()
    """Encoders, as MODEL or LABEL=MODEL: an adapter, a text model of transformers or sentence-transformers (folder or
    Hub id), a .npy file of vectors, or "words", a control that counts words."""
    captions: Path | None = None
    """Real captions as well: a text file with one a line, or a data folder's texts/. None: only templates."""
    per_kind: int = 200  # Most captions of each kind of difference.
    out: Path | None = None  # Folder for encoders.json, encoders.md and a figure; None: only the screen.
    write_texts: Path | None = None
    """FILE.txt; write the texts, one a line, for encoders of other programs, whose vectors come back as a .npy."""

    def __call__(self) -> None:
        from adaclip.files import atomic_file
        from adaqf_train.evaluation.text import contrasts as made

        if not self.models and self.write_texts is None:
            raise ConfigError("No encoder given. Name folders or Hub ids, such as: adaqf encoders runs/demo/adaclip.")
        if self.per_kind < 1:
            raise ConfigError(f"--per-kind must be at least 1, got {self.per_kind}.")
        encoders = self._labelled()
        contrasts = made.from_templates()
        if self.captions is not None:
            contrasts += made.from_captions(made.read_captions(self.captions), self.per_kind)
        texts = made.texts_of(contrasts)
        if self.write_texts is not None:
            with atomic_file(self.write_texts) as staging:
                staging.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
            print(f"wrote {self.write_texts}: {len(texts)} texts")
        if encoders:
            self._compare(encoders, contrasts, texts)

    def _compare(self, encoders: dict[str, str], contrasts: list, texts: list[str]) -> None:
        from rich.console import Console

        from adaqf_train.evaluation.report import on_screen
        from adaqf_train.evaluation.text import report
        from adaqf_train.evaluation.text.vectors import vectors_of

        console = Console()
        vectors = {}
        for label, model in encoders.items():
            console.print(f"[bold]·[/bold] {label}: encoding {len(texts)} texts")
            vectors[label] = vectors_of(model, texts)
        scores = report.scores_of(contrasts, vectors)
        for title, rows in report.tables(scores):
            console.print(on_screen(title, rows))
        if self.out is not None:
            report.save(self.out, scores, contrasts, encoders)
            print(f"wrote {self.out / 'encoders.md'}")

    def _labelled(self) -> dict[str, str]:
        """Encoders by label; ConfigError if a label occurs twice."""
        found: dict[str, str] = {}
        for entry in self.models:
            label, equals, model = entry.partition("=")
            label, model = (label, model) if equals and label and "/" not in label else (entry, entry)
            if label in found:
                raise ConfigError(f"{entry}: two encoders are called {label}. Give labels: NAME={model}.")
            found[label] = model
        return found
