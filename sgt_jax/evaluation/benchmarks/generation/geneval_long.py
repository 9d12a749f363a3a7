"""GenEval with rewritten, longer prompts, as the reference's run script has it."""

from sgt_jax.evaluation.benchmarks.generation import geneval

BENCHMARK = geneval.make(
    "geneval_long", "GenEval (long prompts)", "evaluation_metadata_long.jsonl",
    "mean of six tag means, long prompts, one picture a prompt (main table)",
)  # fmt: skip
