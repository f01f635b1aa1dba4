"""Names of fields: which may say who sees whom, and which are known not to.

What is in neither is not looked at: sizes, vocabularies, dropout. Chapter 2
derives the rules.
"""

__all__ = ["HARMLESS", "NAMES", "WORDS"]

# Fields with one of these words in their name may say who sees whom …
WORDS = {
    "attention",
    "attn",
    "attentions",
    "window",
    "windows",
    "sliding",
    "swa",
    "chunk",
    "chunked",
    "chunks",
    "local",
    "global",
    "causal",
    "bidirectional",
    "sparse",
    "sparsity",
    "dilated",
    "dilation",
    "sink",
    "sinks",
    "stride",
    "prefix",
    "decoder",
    ".",
}
NAMES = {
    "layer_types",
    "block_types",
    "block_type",
    "layers_block_type",
    "hybrid_override_pattern",
    "per_layer_config",
    "sliding_window_pattern",
    "index_topk",
    "add_cross_attention",
    ".",
}
# … and these, which transformers gives to models of the families here, do not.
HARMLESS = {
    # sizes, biases, dropout, scales and implementations
    "num_attention_heads",
    "attention_heads",
    "encoder_attention_heads",
    "decoder_attention_heads",
    "attention_bias",
    "attention_out_bias",
    "attention_dropout",
    "attn_pdrop",
    "attn_dropout",
    "attention_probs_dropout_prob",
    "attention_multiplier",
    "attn_logit_softcapping",
    "query_pre_attn_scalar",
    "attn_temperature_tuning",
    "attn_scale",
    "scale_attn_weights",
    "scale_attn_by_inverse_layer_idx",
    "reorder_and_upcast_attn",
    "attention_softmax_in_fp32",
    "scale_attention_softmax_in_fp32",
    "attn_implementation",
    "deterministic_flash_attn",
    "output_attentions",
    "decoder_attention_dropout",
    # positions
    "relative_attention_num_buckets",
    "relative_attention_max_distance",
    "rope_local_base_freq",
    "local_rope_theta",
    "global_rope_theta",
    # experts, the MLP, heads for other tasks
    "parallel_attn",
    "num_local_experts",
    "decoder_sparse_step",
    "chunk_size_feed_forward",
    "sparse_prediction",
    "sparse_pred_ignore_index",
    "decoder_bias",
    # sizes and tokens of a decoder
    "decoder_start_token_id",
    "decoder_layerdrop",
    "decoder_ffn_dim",
    "decoder_vocab_size",
    "new_decoder_architecture",
    "share_encoder_decoder_embeddings",
    "scale_decoder_outputs",
    ".",
}
