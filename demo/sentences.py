"""What the demo says: technical terms, how a synthesiser must read them, and sentences that hold them.

The train sentences hold each term four times, the dev sentences each at least once, and no sentence
stands in both. whisper-base writes nearly all of these terms wrong, and most of the other words right.

    spoken("We tuned it with QLoRA.")   # "We tuned it with queue laura."
    terms_in("We tuned it with QLoRA.")  # ("QLoRA",)
"""

from __future__ import annotations

import re

SPOKEN = {
    "bitsandbytes": "bits and bytes",
    "ClickHouse": "click house",
    "CockroachDB": "cockroach D B",
    "CTranslate2": "see translate two",
    "cuDNN": "cue D N N",
    "FastAPI": "fast A P I",
    "gRPC": "gee R P C",
    "JAX": "jacks",
    "Jupyter": "Jupiter",
    "kubectl": "cube control",
    "Kubeflow": "cube flow",
    "LightGBM": "light G B M",
    "LlamaIndex": "llama index",
    "MySQL": "my S Q L",
    "NCCL": "nickel",
    "Nginx": "engine X",
    "ONNX": "onix",
    "Parquet": "par kay",
    "PostgreSQL": "post gress queue ell",
    "Pydantic": "pie dantic",
    "PySpark": "pie spark",
    "Qdrant": "quadrant",
    "QLoRA": "queue laura",
    "RabbitMQ": "rabbit M Q",
    "safetensors": "safe tensors",
    "SciPy": "sigh pie",
    "spaCy": "spacey",
    "SQLite": "S Q L light",
    "TensorRT": "tensor R T",
    "vLLM": "vee L L M",
    "Weaviate": "weeviate",
    "XGBoost": "X G boost",
}

TRAIN = (
    "We store the training data as Parquet and read it with PySpark.",
    "Please move the user table from MySQL to PostgreSQL before Friday.",
    "The search team wants to leave Weaviate and try Qdrant.",
    "We tuned the small model with QLoRA and bitsandbytes.",
    "The new chat server runs vLLM behind Nginx.",
    "I converted the speech model to CTranslate2 and to ONNX.",
    "The two programs talk over gRPC, and RabbitMQ keeps the slow jobs.",
    "SciPy has a good filter, so open Jupyter and try it.",
    "Kubeflow starts the job, and kubectl shows you the log.",
    "With FastAPI and Pydantic the whole service fits on one page.",
    "The daily report reads from ClickHouse instead of MySQL.",
    "For the first version SQLite is enough, and Weaviate can wait.",
    "The bank wants CockroachDB because SQLite is too small.",
    "On this table LightGBM is faster, but XGBoost is a little better.",
    "The names come out of spaCy and go straight into Qdrant.",
    "The code in JAX is short, but cuDNN is missing here.",
    "The crash comes from an old cuDNN, and NCCL made it worse.",
    "When NCCL hangs, the vLLM server waits for the network.",
    "LlamaIndex reads our documents and puts them into Weaviate.",
    "Please save the weights as safetensors, then try QLoRA again.",
    "TensorRT made the camera model twice as fast as ONNX.",
    "The export to ONNX works, but TensorRT says no.",
    "QLoRA needs less memory, and JAX can do it too.",
    "Do not restart Nginx while Jupyter is open.",
    "Ask kubectl why the gRPC server does not answer.",
    "The copy from PostgreSQL to Parquet takes an hour every night.",
    "We read the Parquet files with ClickHouse, and it was quick.",
    "CTranslate2 reads safetensors without any trouble.",
    "Someone changed RabbitMQ, and FastAPI lost half the messages.",
    "The phone keeps its notes in SQLite, and the office has MySQL.",
    "FastAPI is easy, but gRPC is faster between our own machines.",
    "The new driver broke bitsandbytes and NCCL on the same day.",
    "Write the rules down in Pydantic, then load them with spaCy.",
    "For short questions CTranslate2 can be faster than vLLM.",
    "We pay too much for PySpark and for Kubeflow.",
    "XGBoost was right, and SciPy gave the same number.",
    "Qdrant was easy to set up, and LlamaIndex already knows it.",
    "I opened Jupyter and drew the curve with SciPy.",
    "Is CockroachDB really slower than PostgreSQL?",
    "Last week LightGBM found an error in our spaCy rules.",
    "My first test of Weaviate was slow, so I went back to SQLite.",
    "Nginx sends half of the people to the old FastAPI service.",
    "You need kubectl and a password to see RabbitMQ.",
    "The paper used QLoRA, and the weights are in safetensors.",
    "The students use Jupyter to learn PySpark.",
    "Both cuDNN and TensorRT must match the driver.",
    "Every hour Kubeflow copies the table to ClickHouse.",
    "We write Parquet from LightGBM to compare the results.",
    "NCCL is fine, but bitsandbytes does not see the second card.",
    "Can CockroachDB replace MySQL in the new shop?",
    "With spaCy we cut the text, and LlamaIndex does the rest.",
    "XGBoost can write ONNX, but nobody has tried it.",
    "SciPy and PySpark are on the list for the new image.",
    "The old bitsandbytes does not know JAX at all.",
    "Pydantic found a wrong date in the file from PostgreSQL.",
    "The load on Qdrant went down after we fixed Nginx.",
    "The team in London runs CockroachDB, and we run ClickHouse.",
    "First call kubectl, then wait until Kubeflow is ready.",
    "I asked LlamaIndex about Pydantic, and it knew the answer.",
    "Without cuDNN you cannot start TensorRT on that machine.",
    "The safetensors for vLLM are on the big disk.",
    "JAX and CTranslate2 are too new for this machine.",
    "RabbitMQ sends each row to XGBoost.",
    "The gRPC call to LightGBM takes two seconds.",
)

DEV = (
    "Who wrote the page about QLoRA and TensorRT?",
    "This morning PostgreSQL was full, and Kubeflow stopped.",
    "I would like to try vLLM before we buy TensorRT.",
    "Our customer asked for Qdrant and SQLite in the next release.",
    "The plan is to drop PySpark and learn gRPC.",
    "There is a new book about SciPy and spaCy.",
    "Tell the others that Nginx and RabbitMQ are down again.",
    "Why does kubectl show two jobs from ClickHouse?",
    "We built the first page with FastAPI and Weaviate in one day.",
    "The form is checked by Pydantic before MySQL gets it.",
    "The price of memory made us look at bitsandbytes and CTranslate2.",
    "She sent me the model in ONNX and in safetensors.",
    "We asked LlamaIndex where the Parquet files are.",
    "We lost one machine, but CockroachDB and Qdrant went on.",
    "The winner of the contest used XGBoost and Jupyter.",
    "She moved the project from LightGBM to JAX in the summer.",
    "The build failed because cuDNN and ONNX were not found.",
    "All the messages go through gRPC first, then through Nginx.",
    "In the end we chose CTranslate2 and FastAPI for the small server.",
    "With NCCL and JAX the machines talk to each other.",
    "After lunch I will show you ClickHouse and Jupyter.",
    "My friend put the Parquet file into CockroachDB.",
    "The lesson about LightGBM and SciPy starts at noon.",
    "Did kubectl or cuDNN give you this message?",
    "The talk about NCCL and Weaviate was full.",
    "Please ask Maria about bitsandbytes and Kubeflow.",
    "QLoRA and vLLM do not work together yet.",
    "Is there a way to read safetensors with XGBoost?",
    "Her team has PostgreSQL but no PySpark.",
    "Our new student knows spaCy and RabbitMQ.",
)

_TERM = re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, SPOKEN)) + r")(?!\w)")


def terms_in(sentence: str) -> tuple[str, ...]:
    """The terms that a sentence holds, in their order."""
    return tuple(_TERM.findall(sentence))


def spoken(sentence: str) -> str:
    """The sentence as the synthesiser must get it: every term in its spoken form."""
    return _TERM.sub(lambda match: SPOKEN[match[0]], sentence)
