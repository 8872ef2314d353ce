// Draws DiceBear's cartoon heads, a folder a style (docs/results/images.md).
//
// example: npm install @dicebear/core@9.4.3 @dicebear/collection@9.4.3 @resvg/resvg-js@2
//          node draw_avatars.mjs OUT 3000
//          vitgan data folder --source OUT --resolution 32 --labels folders --out data/avatars32
//
// Licences of the drawings: CC0 1.0 (lorelei, openPeeps); CC BY 4.0 by Lisa Wischofsky (adventurer), The Visual Team
// (bigEars), Ashley Seo (bigSmile), Natalia Spivak (dylan), Micah Lanier (micah), Webpixels (miniavs), Draftbit (personas)
// and Johan Melin (toonHead).
import fs from 'node:fs'
import { createAvatar } from '@dicebear/core'
import * as styles from '@dicebear/collection'
import { Resvg } from '@resvg/resvg-js'

const [out, count] = process.argv.slice(2)
const names = [
  'adventurer', 'bigEars', 'bigSmile', 'dylan', 'lorelei', 'micah', 'miniavs', 'openPeeps', 'personas', 'toonHead',
]
const backgroundColor = ['b6e3f4', 'c0aede', 'd1d4f9', 'ffd5dc', 'ffdfbf']
for (const name of names) {
  fs.mkdirSync(`${out}/${name}`, { recursive: true })
  for (let seed = 0; seed < Number(count); seed++) {
    const svg = createAvatar(styles[name], { seed: String(seed), backgroundColor }).toString()
    const png = new Resvg(svg, { fitTo: { mode: 'width', value: 128 } }).render().asPng()
    fs.writeFileSync(`${out}/${name}/${seed}.png`, png)
  }
}
