// Prints the positions of all joints in every frame, as three.js reads a BVH or GLB file: node three.mjs FILE FPS FRAMES
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

globalThis.self = globalThis; // the loaders expect a browser
const three = path.join(process.env.NODE_PATH, "three");
const load = (file) => import(pathToFileURL(path.join(three, file)));
const THREE = await load("build/three.module.js");
const { BVHLoader } = await load("examples/jsm/loaders/BVHLoader.js");
const { GLTFLoader } = await load("examples/jsm/loaders/GLTFLoader.js");

const [file, fps, frames] = process.argv.slice(2);
const content = fs.readFileSync(file);
let root, clip;
if (file.endsWith(".bvh")) {
  const body = new BVHLoader().parse(content.toString());
  [root, clip] = [body.skeleton.bones[0], body.clip];
} else {
  const buffer = content.buffer.slice(content.byteOffset, content.byteOffset + content.byteLength);
  const scene = await new Promise((resolve, reject) => new GLTFLoader().parse(buffer, "", resolve, reject));
  [root, clip] = [scene.scene, scene.animations[0]];
}
const mixer = new THREE.AnimationMixer(root);
mixer.clipAction(clip).play();
const positions = {};
for (let frame = 0; frame < frames; frame++) {
  mixer.setTime(Math.min(frame / fps, clip.duration - 1e-6));
  root.updateMatrixWorld(true);
  root.traverse((node) => {
    if (node.isBone && node.name !== "ENDSITE") {
      (positions[node.name] ??= []).push(new THREE.Vector3().setFromMatrixPosition(node.matrixWorld).toArray());
    }
  });
}
console.log(JSON.stringify(positions));
