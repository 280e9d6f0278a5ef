"""The npm package of resumable.js, as people install it: it can be imported, and its types fit it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import resumable
from tests.clients.node import SCRIPTS

pytestmark = [pytest.mark.process, pytest.mark.soak]

PACKAGE = Path(resumable.__file__).parent / "page" / "js"

#: What a program does with it. Below each ``@ts-expect-error`` something has to be wrong.
PROGRAM = """
import { Upload, UploadError, unfinished, type Result, type State, type Store } from "twisted-resumable";

const kept = new Map<string, string>();
const store: Store = {
  get: async (key) => kept.get(key),
  set: (key, value) => void kept.set(key, value),
  remove: (key) => void kept.delete(key),
};
const states: State[] = [];
const upload = new Upload(new Blob(["abc"]), {
  endpoint: new URL("http://127.0.0.1:9/"),
  name: "a.txt",
  headers: async () => ({ Authorization: "x" }),
  connections: 2,
  retryDelays: [],
  store,
  onProgress: ({ stored, sent, total }) => console.log(stored / total, sent),
  onStateChange: (state) => states.push(state),
});
try {
  const result: Result = await upload.start();
  console.log(result.checksum.crc32c?.length, unfinished()[0]?.digest.length);
} catch (error) {
  if (!(error instanceof UploadError)) throw error;
  const said: [string, number, State] = [error.name, error.status, upload.state];
  console.log(JSON.stringify([...said, states]));
}
export function neverCalled(): Promise<{ video: number }> {
  // @ts-expect-error
  new Upload("a path");
  // @ts-expect-error
  new Upload(new Blob([]), { conections: 2 });
  // @ts-expect-error
  upload.state = "finished";
  return new Upload<{ video: number }>(new File([], "b")).start();
}
"""
SETTINGS = {
    "compilerOptions": {
        "strict": True,
        "target": "es2022",
        "module": "nodenext",
        "lib": ["es2022", "dom", "dom.iterable"],
        "types": [],
        "skipLibCheck": False,
    },
    "files": ["program.ts"],
}


def command(*arguments: str, at: Path) -> str:
    """Run a program; what it wrote to standard output."""
    done = subprocess.run(arguments, cwd=at, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_package(tmp_path: Path) -> None:
    npm, node = shutil.which("npm"), shutil.which("node")
    compiler = SCRIPTS / "node_modules" / "typescript" / "bin" / "tsc"
    if npm is None or node is None or not compiler.exists():
        pytest.skip("npm, node or the packages are not installed (npm ci --prefix tests/clients/javascript)")
    packed = command(npm, "pack", str(PACKAGE), "--pack-destination", str(tmp_path), "--silent", at=tmp_path).strip()
    (tmp_path / "package.json").write_text('{"name": "app", "private": true, "type": "module"}')
    command(npm, "install", "--offline", "--no-audit", "--no-fund", "--silent", f"./{packed}", at=tmp_path)
    inside = tmp_path / "node_modules" / "twisted-resumable"
    assert sorted(path.name for path in inside.iterdir()) == ["package.json", "resumable.d.ts", "resumable.js"]
    (tmp_path / "program.ts").write_text(PROGRAM)
    (tmp_path / "tsconfig.json").write_text(json.dumps(SETTINGS))
    assert command(node, str(compiler), at=tmp_path) == ""
    # Compiled, it runs: nobody answers at the port, and there are no delays.
    said = command(node, "program.js", at=tmp_path).splitlines()
    assert said[-1] == '["UploadError",0,"failed",["starting","failed"]]'
