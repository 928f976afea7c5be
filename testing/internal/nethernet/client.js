// Players that join a NetherNet server, as many as are asked for.
//
//   node client.js LIBRARY
//
// LIBRARY: see peer.js. Reads commands from standard input, each a line of JSON,
// and writes a line of JSON for each once it is done, with its `id`:
//
//   {"id": 1, "command": "join", "url": "http://10.0.1.1:19132", "count": 1,
//    "push_bytes": 262144, "name": "a"}   joins, and keeps the players as `a`
//   {"id": 2, "command": "echo", "name": "a"}    each sends on both channels
//   {"id": 3, "command": "close", "name": "a"}
//
// A join probes the server (GET), sends its offer (POST), awaits an echo on both
// channels, and all bytes that the server sends as the channels open. In the
// response: `errors`, and of each player `seconds` from the POST until the
// channel is open, and `push_seconds` from then to the last byte.
'use strict'

const http = require('http')
const https = require('https')
const {
  CHANNELS, LIBRARIES, bytesOf, completeDescription, send, until
} = require('./peer')

const SECONDS_MAX = 40

const [library] = process.argv.slice(2)
const players = new Map()

function request (method, url, body) {
  return new Promise((resolve, reject) => {
    const module = url.startsWith('https:') ? https : http
    const sent = module.request(url, {
      method,
      agent: false,
      timeout: 1000 * SECONDS_MAX,
      ...(body && { headers: { 'Content-Type': 'application/sdp' } })
    }, async (response) => {
      let text = ''
      for await (const part of response) text += part
      if (response.statusCode >= 200 && response.statusCode < 300) resolve(text)
      else reject(new Error(`${method} ${url}: ${response.statusCode} ${text}`))
    })
    sent.on('timeout', () => sent.destroy(new Error(`${method} ${url}: timeout`)))
    sent.on('error', reject)
    sent.end(body)
  })
}

class Player {
  constructor () {
    this.peer = LIBRARIES[library]({ ports: null, isShared: false })
    this.received = 0
    this.echoes = new Map()
    this.round = 0
    this.channels = CHANNELS.map(([label, options]) => {
      const channel = this.peer.createDataChannel(label, options)
      channel.binaryType = 'arraybuffer'
      channel.onmessage = ({ data }) => this.take(label, bytesOf(data))
      return channel
    })
  }

  take (label, data) {
    if (data[0] === 0x5a) {
      this.received += data.length
      if (this.received >= this.wanted) this.pushEnd ??= performance.now()
    } else {
      this.echoes.set(label, data.toString())
    }
  }

  // On a channel that may lose messages the same again until one comes back.
  async echo () {
    const text = `echo ${++this.round}`
    for (const channel of this.channels) {
      let tries = 0
      let next = 0
      await until(`echo on ${channel.label}`, () => {
        if (performance.now() >= next && (tries++ === 0 ||
            channel.label !== 'ReliableDataChannel')) {
          next = performance.now() + 500
          send(channel, Buffer.from(text)).catch(() => {})
        }
        return this.echoes.get(channel.label) === text
      }, SECONDS_MAX)
    }
  }

  async join (url, pushBytes) {
    this.wanted = pushBytes
    JSON.parse(await request('GET', `${url}/v1/join`))
    await this.peer.setLocalDescription(await this.peer.createOffer())
    const offer = await completeDescription(this.peer)
    const begin = performance.now()
    const digits = String(pushBytes).padStart(7, '0')
    const id = `${1 + Math.floor(Math.random() * 1e9)}${digits}`
    const sdp = await request('POST', `${url}/v1/join/${id}`, offer)
    await this.peer.setRemoteDescription({ type: 'answer', sdp })
    await until('open channels', () =>
      this.channels.every(({ readyState }) => readyState === 'open'), SECONDS_MAX)
    const open = performance.now()
    await until(`${pushBytes} bytes`, () => this.received >= pushBytes, SECONDS_MAX)
    const pushEnd = this.pushEnd ?? open
    await this.echo()
    if (this.received !== pushBytes) throw new Error(`${this.received} bytes came`)
    return {
      seconds: (open - begin) / 1000,
      push_seconds: Math.max(0, pushEnd - open) / 1000,
      // Of the answer: where the player is told to send.
      candidates: sdp.split(/\r?\n/).filter((l) => l.startsWith('a=candidate:'))
        .map((line) => line.split(' ').slice(4, 6).join(' '))
    }
  }
}

// Runs `act` for all at once: their results, and the errors of those that failed.
async function all (list, act) {
  const outcomes = await Promise.allSettled(list.map(act))
  return {
    results: outcomes.filter((o) => o.status === 'fulfilled').map((o) => o.value),
    errors: outcomes.filter((o) => o.status === 'rejected')
      .map((o) => String(o.reason?.message ?? o.reason))
  }
}

async function run ({ command, name, url, count, push_bytes: pushBytes }) {
  if (command === 'join') {
    const made = Array.from({ length: count }, () => new Player())
    players.set(name, made)
    return all(made, (player) => player.join(url, pushBytes))
  }
  const those = players.get(name)
  if (command === 'echo') return all(those, (player) => player.echo())
  players.delete(name)
  return all(those, async (player) => player.peer.close())
}

require('readline').createInterface({ input: process.stdin }).on('line', (line) => {
  const command = JSON.parse(line)
  run(command).catch((error) => ({ results: [], errors: [String(error)] }))
    .then((outcome) => console.log(JSON.stringify({ id: command.id, ...outcome })))
})
process.on('uncaughtException', (error) => console.error(error))
LIBRARIES[library]({ ports: null, isShared: false }).close()
console.log('"ready"')
