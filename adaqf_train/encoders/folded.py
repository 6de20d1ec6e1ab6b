"""CLIP's text tower with LoRA folded into its weights, for training steps on an accelerator.

Layer by layer, LoRA adds two small products, a scaling and a sum to each of sixty linear layers; their launches take
longer than their arithmetic. Here W + s B A is computed for all layers together, once per call.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn.functional import embedding, layer_norm, linear, scaled_dot_product_attention
from transformers.activations import ACT2FN

from adaclip import AdaCLIP, TextFeatures
from adaclip.pooling import end_positions

# The linear layers of a block, in the order of its arguments.
PATHS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "mlp.fc1", "mlp.fc2")


class FoldedTower(nn.Module):
    """Computes what `encoder(ids, mask)` computes, with gradients into the same adapter."""

    def __init__(self, encoder: AdaCLIP, dtype: torch.dtype = torch.float32) -> None:
        """Copy the frozen weights; the adapter's stay the encoder's own. bfloat16 saves autocast from casting them."""
        super().__init__()
        model = encoder.text_model.base_model.model
        text, config = model.text_model, model.config
        self._encoder, self._layers = (encoder,), tuple(text.encoder.layers)  # tuples: not registered twice
        self.heads, self.eps, self.eos = config.num_attention_heads, config.layer_norm_eps, encoder.eos_token_id
        self.activation = ACT2FN[config.hidden_act]
        for number, path in enumerate(PATHS):
            bases = [_base(layer.get_submodule(path)) for layer in self._layers]
            self._keep(f"weight{number}", torch.stack([base.weight for base in bases]).to(dtype))
            self._keep(f"bias{number}", torch.stack([base.bias for base in bases]).to(dtype))
        for name in ("layer_norm1", "layer_norm2"):
            norms = [layer.get_submodule(name) for layer in self._layers]
            self._keep(name, torch.stack([torch.stack([norm.weight, norm.bias]) for norm in norms]))
        self._keep("tokens", text.embeddings.token_embedding.weight)
        self._keep("positions", text.embeddings.position_embedding.weight)
        self._keep("final", torch.stack([text.final_layer_norm.weight, text.final_layer_norm.bias]))
        self._keep("projection", model.text_projection.weight.to(dtype))
        self.block: Callable[..., Tensor] = block

    @staticmethod
    def supports(encoder: AdaCLIP) -> bool:
        """Whether nothing but plain LoRA learns, without dropout and in the linear layers of CLIP's blocks alone."""
        if encoder.pooling.name != "text_embeds":
            return False
        adapter = {id(parameter) for parameter in encoder.adapter_parameters()}
        if any(parameter.requires_grad and id(parameter) not in adapter for parameter in encoder.parameters()):
            return False
        inside = [module for name, module in encoder.named_modules() if isinstance(module, LoraLinear)]
        dropout = any(not isinstance(part, nn.Identity) for module in inside for part in module.lora_dropout.values())
        counted = sum(parameter.numel() for module in inside for parameter in _factors(module))
        return not dropout and counted == sum(parameter.numel() for parameter in encoder.adapter_parameters())

    def compile(self, **options: object) -> None:
        """Compile the block, once for all layers."""
        self.block = torch.compile(block, **options)

    def forward(self, ids: Tensor, mask: Tensor) -> TextFeatures:
        folded = [self._folded(number, path) for number, path in enumerate(PATHS)]
        qkv_bias = torch.cat([self.bias0, self.bias1, self.bias2], dim=1)
        # The backward pass of `unbind` is one copy; that of an index would fill and add all layers for each of them.
        matrices = zip(*(weight.unbind() for weight in (torch.cat(folded[:3], dim=1), *folded[3:])), strict=True)
        biases = zip(*(bias.unbind() for bias in (qkv_bias, self.bias3, self.bias4, self.bias5)), strict=True)
        norms = zip(self.layer_norm1.unbind(), self.layer_norm2.unbind(), strict=True)
        x = embedding(ids, self.tokens) + self.positions[: ids.shape[1]]
        for each in zip(norms, matrices, biases, strict=True):
            x = self.block(x, *each, self.heads, self.eps, self.activation)
        states = layer_norm(x, x.shape[-1:], *self.final.unbind(), self.eps)
        ends = end_positions(ids, mask, self.eos)
        pooled = linear(states.gather(1, ends[:, None, None].expand(-1, 1, states.shape[-1]))[:, 0], self.projection)
        return TextFeatures(pooled, states * mask[..., None], mask)

    def _folded(self, number: int, path: str) -> Tensor:
        """W + s B A of one linear layer in every block, (layers, out, in)."""
        weight = self.get_buffer(f"weight{number}")
        modules = [layer.get_submodule(path) for layer in self._layers]
        if not isinstance(modules[0], LoraLinear):
            return weight
        a, b = (torch.stack(parts).to(weight.dtype) for parts in zip(*map(_factors, modules), strict=True))
        scaling = modules[0].scaling[modules[0].active_adapters[0]]
        return torch.baddbmm(weight, b, a, alpha=scaling)

    def _keep(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value.detach().clone(), persistent=False)


def block(
    x: Tensor,
    norms: tuple[Tensor, ...],
    matrices: tuple[Tensor, ...],
    biases: tuple[Tensor, ...],
    heads: int,
    eps: float,
    activation: Callable[[Tensor], Tensor],
) -> Tensor:
    """One block of CLIP's text tower over (B, L, H): causal self-attention and MLP, each with a norm before it.

    norms: weight and bias (2, H) of each. matrices, biases: of queries, keys and values together; of the attention's
    output; of the MLP's two layers.
    """
    width = x.shape[-1:]
    projected = linear(layer_norm(x, width, *norms[0].unbind(), eps), matrices[0], biases[0])
    parts = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in projected.chunk(3, dim=-1))
    attended = scaled_dot_product_attention(*parts, is_causal=True)
    x = x + linear(attended.transpose(1, 2).flatten(2), matrices[1], biases[1])
    hidden = activation(linear(layer_norm(x, width, *norms[1].unbind(), eps), matrices[2], biases[2]))
    return x + linear(hidden, matrices[3], biases[3])


def _base(module: nn.Module) -> nn.Linear:
    return module.get_base_layer() if isinstance(module, LoraLinear) else module


def _factors(module: LoraLinear) -> tuple[Tensor, Tensor]:
    """A (r, in) and B (out, r) of a layer."""
    (name,) = module.active_adapters
    return module.lora_A[name].weight, module.lora_B[name].weight
