// Draws the cartoon heads of the bundled model `heads`, a folder a mood (docs/results/images.md).
//
// example: npm install @dicebear/core@9.4.3 @dicebear/collection@9.4.3 @resvg/resvg-js@2
//          node draw_heads.mjs OUT
//          vitgan data folder --source OUT --resolution 32 --labels folders --out data/heads
//
// The drawings are DiceBear's style "dylan" by Natalia Spivak, CC BY 4.0, in other colours. Each combination of mood, hair
// and colours is drawn once, and every fifth also with a beard: 19,354 images.
import fs from 'node:fs'
import { createAvatar } from '@dicebear/core'
import { dylan } from '@dicebear/collection'
import { Resvg } from '@resvg/resvg-js'

const [out] = process.argv.slice(2)
const options = dylan.schema.properties
const hairColors = ['000000', '6b3e26', 'ff543d', 'fff500', '1d5dff', 'ffffff', 'a259ff', '2ec4b6']
const skinColors = ['ffd6c0', 'f1b98a', 'c26450', '8d5524']
const backgroundColors = ['9fd8cb', '9fb8ff', 'ffa6c9', 'ffd166', 'b8e986', 'c0aede']

function draw(path, mood, hair, hairColor, skinColor, backgroundColor, facialHairProbability) {
  const chosen = { mood: [mood], hair: [hair], hairColor: [hairColor], skinColor: [skinColor] }
  const svg = createAvatar(dylan, { ...chosen, backgroundColor: [backgroundColor], facialHairProbability }).toString()
  fs.writeFileSync(path, new Resvg(svg, { fitTo: { mode: 'width', value: 128 } }).render().asPng())
}

let count = 0
for (const mood of options.mood.default) {
  fs.mkdirSync(`${out}/${mood}`, { recursive: true })
  for (const hair of options.hair.default)
    for (const hairColor of hairColors)
      for (const skinColor of skinColors)
        for (const backgroundColor of backgroundColors) {
          const chosen = [mood, hair, hairColor, skinColor, backgroundColor]
          draw(`${out}/${mood}/${count}.png`, ...chosen, 0)
          if (count % 5 === 0) draw(`${out}/${mood}/${count}-beard.png`, ...chosen, 100)
          count++
        }
}
