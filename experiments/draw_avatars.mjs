// Draws DiceBear's avatars, a folder a style: npm install @dicebear/core@9.4.3 @dicebear/collection@9.4.3 @resvg/resvg-js@2
// then: node draw_avatars.mjs OUT 1500
import fs from 'node:fs'
import { createAvatar } from '@dicebear/core'
import * as styles from '@dicebear/collection'
import { Resvg } from '@resvg/resvg-js'

const [out, count] = process.argv.slice(2)
const names = ['adventurer', 'avataaars', 'bigSmile', 'bottts', 'micah', 'openPeeps', 'personas', 'toonHead']
const backgroundColor = ['b6e3f4', 'c0aede', 'd1d4f9', 'ffd5dc', 'ffdfbf']
for (const name of names) {
  fs.mkdirSync(`${out}/${name}`, { recursive: true })
  for (let seed = 0; seed < Number(count); seed++) {
    const svg = createAvatar(styles[name], { seed: String(seed), backgroundColor }).toString()
    const png = new Resvg(svg, { fitTo: { mode: 'width', value: 128 } }).render().asPng()
    fs.writeFileSync(`${out}/${name}/${seed}.png`, png)
  }
}
