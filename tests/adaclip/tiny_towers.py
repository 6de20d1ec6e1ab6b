"""Text encoders of all families, of a few thousand parameters, each with a tokenizer of its kind."""

from __future__ import annotations

import json
from pathlib import Path

import tiny
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

WORDS = "a person he walks turns left right then waves twice slowly the runs jumps back hand . , !".split()  # noqa: SIM905
LETTERS = [*"abcdefghijklmnopqrstuvwxyz", *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")]
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
BERT_LIKE = {
    "bert": "Bert",
    "roberta": "Roberta",
    "mpnet": "MPNet",
    "distilbert": "DistilBert",
    "modernbert": "ModernBert",
}
CLIPS = {
    "clip-l14": {"hidden_size": 24, "intermediate_size": 96, "projection_dim": 24, "num_attention_heads": 3},
    "clip-bigg": {"hidden_size": 20, "intermediate_size": 80, "projection_dim": 20, "hidden_act": "gelu"},
}
FAMILIES = (*CLIPS, "clip-pooler", *BERT_LIKE, "t5", "t5-gated", "sentence-t5")


def word_pieces(*, most: int = 64) -> PreTrainedTokenizerFast:
    """BERT's word pieces over a few words and all letters."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocab = {entry: i for i, entry in enumerate([*special, *WORDS, *(x for x in LETTERS if x not in WORDS)])}
    backend = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=most, **names)


def pieces(*, most: int = 64) -> PreTrainedTokenizerFast:
    """T5's unigram pieces with the end token alone."""
    entries = ["<pad>", "</s>", "<unk>", "▁", *(f"▁{word}" for word in WORDS), *LETTERS[:26]]
    backend = Tokenizer(models.Unigram([(entry, -float(i)) for i, entry in enumerate(entries)], unk_id=2))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=most, **names)


def build(family: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model with random weights, large enough that prompts differ, and its tokenizer."""
    if family.startswith("clip"):
        model = tiny.text_model(**CLIPS.get(family, {}))
        return model, tiny.tokenizer()
    tokenizer = pieces() if "t5" in family else word_pieces()
    torch.manual_seed(0)
    if "t5" in family:
        gated = {"feed_forward_proj": "gated-gelu"} if family == "t5-gated" else {}
        config = transformers.T5Config(
            vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, **gated
        )
        model = transformers.T5EncoderModel(config)
    else:
        sizes = SIZES | {"vocab_size": len(tokenizer), "pad_token_id": 0, "max_position_embeddings": 80}
        if family == "modernbert":
            sizes |= {"bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
        kind = BERT_LIKE[family]
        model = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**sizes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval(), tokenizer


def save_base(folder: Path, family: str) -> Path:
    """A base as on the Hub."""
    model, tokenizer = build(family)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if family == "sentence-t5":
        add_sentence_files(folder, dense=torch.randn(12, 16, generator=torch.Generator().manual_seed(2)))
    return folder


def add_sentence_files(
    folder: Path, *, mode: str = "mean", dense: torch.Tensor | None = None, **pooling: object
) -> None:
    """What sentence-transformers writes beside a model: pooling, a dense layer and unit length."""
    from safetensors.torch import save_file

    kinds = {"": "Transformer", "1_Pooling": "Pooling"} | ({"2_Dense": "Dense"} if dense is not None else {})
    kinds |= {f"{len(kinds)}_Normalize": "Normalize"}
    types = [f"sentence_transformers.models.{kind}" for kind in kinds.values()]
    modules = [
        {"idx": i, "name": str(i), "path": p, "type": t} for i, (p, t) in enumerate(zip(kinds, types, strict=True))
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 40, "do_lower_case": false}')
    (folder / "1_Pooling").mkdir()
    recorded = {"word_embedding_dimension": 16, f"pooling_mode_{mode}_tokens": True, **pooling}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(recorded))
    if dense is not None:
        (folder / "2_Dense").mkdir()
        layer = {"in_features": 16, "out_features": len(dense), "bias": False}
        layer["activation_function"] = "torch.nn.modules.linear.Identity"
        (folder / "2_Dense" / "config.json").write_text(json.dumps(layer))
        save_file({"linear.weight": dense}, folder / "2_Dense" / "model.safetensors")
