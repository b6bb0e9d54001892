"""`launch.py import`."""

from pathlib import Path

from research.convert import importer
from research.convert.folder import require_free
from research.models import params as parameters


def run(source: str, output: str, labels: str = "") -> int:
    """Converts a public checkpoint into one of ours, and prints a summary."""
    require_free(Path(output))  # first: reading can take minutes
    imported = importer.read(source, labels.split(",") if labels else ())
    importer.save(imported, output)
    model = imported.config.model
    heads = imported.params["heads"]
    print(
        f"{imported.architecture} from {imported.source.where}: "
        f"{parameters.count(imported.params['backbone'], model):,} parameters in {model.layers} "
        f"layers, {model.width} wide"
    )
    for name, tree in heads.items():
        count = parameters.count({"heads": {name: tree}}, model)
        print(f"  head {name}: {count:,} parameters")
    for note in imported.notes:
        print(f"  {note}")
    print(f"written to {output}; fine-tune it with --config.init_from={output}")
    return 0
