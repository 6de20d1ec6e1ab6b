"""AdaQF: how the AdaCLIP adapter is made. A text encoder's LoRA and a motion diffusion model, trained together."""
